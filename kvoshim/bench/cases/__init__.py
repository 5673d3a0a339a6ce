"""What is measured, and what is asked of it: one module for each kind of program. Data only."""

from kvoshim.bench.cases import applications, costs, kvo, many, python, registry, services, streams
from kvoshim.bench.model import Block, Preset

CASES = (*streams.CASES, *many.CASES, *costs.CASES, *python.CASES, *kvo.CASES, *registry.CASES, *services.CASES, *applications.CASES)
BY_NAME = {case.name: case for case in CASES}


def blocks(preset: Preset, only: tuple[str, ...] = ()) -> list[Block]:
    """The blocks to run. `only`: case names, or beginnings of block names, whatever the preset.

    Raises KeyError with the word that names nothing.
    """
    everything = [Block(case, size) for case in CASES for size in case.sizes]
    if only:
        chosen = []
        for word in only:
            found = [block for block in everything if block.name == word or block.case.name == word]
            found = found or [block for block in everything if block.name.startswith(word)]
            if not found:
                raise KeyError(word)
            chosen += [block for block in found if block not in chosen]
        return chosen
    return [
        block
        for block in everything
        if block.case.detail <= preset.detail and (preset.detail or block.size in block.case.quick_sizes)
    ]


def with_controls(chosen: list[Block]) -> list[Block]:
    """The blocks, and before them the comparisons of the kernel with itself that tell their noise."""
    needed = {block.case.control for block in chosen if block.case.targets or block.case.shape in ("trip", "rate")}
    controls = [Block(case, case.sizes[0]) for case in CASES if case.name in needed]
    return [block for block in controls if block not in chosen] + chosen
