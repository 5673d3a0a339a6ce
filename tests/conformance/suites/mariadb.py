"""MariaDB's own tests, as Debian packages them: mysql-test-run starts the servers, mysqltest and the others are clients."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from conformance.obtain import apt_install, debian
from conformance.scenes.scene import World, run_as
from conformance.suite import Result, Suite, execute

_FOLDER = Path("/usr/share/mysql/mysql-test")

#: What moves much or unusual data between client and server, begins and ends connections, or waits in them.
_MAIN = """aborted_clients alter_table$ bench_count big blob bulk case cast change_user commit compress connect create$ cte_ deadlock
    delete dirty_close events_1 explain$ failed_auth flush func_str get_diagnostics grant$ group_by$ having information_schema$
    init_connect innodb insert join$ kill limit loaddata loadxml lock long max merge$ metadata multi_ mysql$ mysql_client_test
    mysqladmin mysqlcheck mysqldump mysqlshow mysqlslap mysqltest net non_blocking_api null olap order_by$ outfile packet parser
    partition$ password prepare processlist ps$ ps_ query_cache rollback select shutdown signal sp$ sp- status stmt subselect$
    temp_table trans trigger$ truncate type_blob type_varchar union unix_socket update user_var variables$ view$ wait_timeout
    warnings xa xml""".split()
#: Once more as prepared statements, with cursors.
_PREPARED = "ps$ ps_1 ps_2 select$ insert_select union$ type_blob subselect$ loaddata$ outfile$ func_str$ multi_update$".split()


class MariaDB(Suite):
    """A selection of tests, given to mysql-test-run with some options."""

    limit = 1200

    def __init__(self, name: str, about: str, words: list[str], accelerates: int):
        self.name, self.about, self.words, self.accelerates = f"mariadb/{name}", about, words, accelerates

    def install(self) -> None:
        debian(mariadbd="mariadb-server", setpriv="util-linux", perl="perl")
        if not (_FOLDER / "main").exists() or not (_FOLDER / "mtr").exists():
            apt_install(["mariadb-test"])

    def run(self, environment, directory, only=None) -> Result:
        world = World(environment, directory, "both")
        home = world.new_dir("m")
        become = run_as("mysql")
        if become:
            subprocess.run(["chown", "mysql:", home], check=True)
        words = [*(word for word in self.words if word.startswith("--") and not word.startswith("--do-test")),
                 *sorted({test.split(" ")[0] for test in only})] if only else self.words
        ended = execute([*become, "perl", "./mtr", f"--vardir={home}/v", "--force", "--max-test-fail=0", "--retry=0",
                         "--parallel=2", "--nowarnings", "--skip-rpl", "--testcase-timeout=5", *words], world.environment,
                        directory, self.limit, cwd=_FOLDER)
        result = Result(text=ended.text)
        for test, how in re.findall(r"^([a-z]\S*\.\S+(?: '[^']*')?) .*\[ (pass|fail) \]", ended.text, re.M):
            (result.passed if how == "pass" else result.failed).add(test)
        result.passed -= result.failed
        return result


def _chosen(names: list[str]) -> list[str]:
    return ["--suite=main", f"--do-test=^({'|'.join(names)})"]


SUITES = [
    MariaDB("main", "a selection of MariaDB's main tests", _chosen(_MAIN), 2500),
    MariaDB("prepared", "some of MariaDB's tests as prepared statements with cursors", ["--cursor-protocol", *_chosen(_PREPARED)], 50),
    MariaDB("client", "the tests of MariaDB's client library, also without blocking",
            ["--big-test", "--non-blocking-api", "mysql_client_test", "mysql_client_test_nonblock", "mysql_client_test_comp",
             "non_blocking_api", "select", "packet", "loaddata"], 150),
]
