"""Run mutmut, and list for each module which changes no test notices (``make mutants``)."""

import sys
from collections import Counter
from pathlib import Path

from libcst import FunctionDef
from libcst.matchers import Attribute, Call, Decorator, Name, matches
from mutmut.__main__ import cli
from mutmut.mutation import file_mutation
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

PLAIN = Decorator(Call(Attribute(Name("torch"), Name("no_grad")) | Name("one_thread")))
EXPLAINED = set(Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines())


class Visitor(file_mutation.MutationVisitor):
    """Change functions under these two decorators as well; mutmut leaves out all decorated ones."""

    def _skip_node_and_children(self, node):
        decorators = node.decorators if isinstance(node, FunctionDef) else []
        if len(decorators) == 1 and matches(decorators[0], PLAIN):
            return False
        return super()._skip_node_and_children(node)


def report():
    """Print what no test notices and ``mutants.txt`` does not explain, then counts per module."""
    counts = {}
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        counts[path] = Counter()
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            if status in ("survived", "no tests"):
                changes = get_diff_for_mutant(name, path=path).splitlines()[2:]
                *before, last = (c[0] + c[1:].strip() for c in changes if c[0] in "-+")
                if (key := f"{path.stem}: {last}") in EXPLAINED:
                    status = "explained"
                else:
                    print(f"\n{name}: {status}", *before, key, sep="\n")
            counts[path][status] += 1
    print()
    for path, found in [*counts.items(), ("together", sum(counts.values(), Counter()))]:
        print(f"{path!s:40}", ", ".join(f"{n} {status}" for status, n in sorted(found.items())))


if __name__ == "__main__":
    file_mutation.MutationVisitor = Visitor
    cli(["run", *sys.argv[1:]], standalone_mode=False)
    report()
