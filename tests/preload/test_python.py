"""Unmodified programs of the standard library: asyncio, socketserver, multiprocessing.connection, socket, selectors."""

import pytest
import snippetlib


@pytest.mark.parametrize("name", snippetlib.names(".py"))
def test_python_program_behaves_as_on_the_kernel(place, name):
    plain, shimmed, shim = snippetlib.run_both(place, name, timeout=55)
    plain.check()
    snippetlib.assert_same(plain, shimmed, shim)
    snippetlib.assert_accelerated(snippetlib.directives(name).accelerated, shim)
