"""Draw the import graph of the package and check its rules.

    python tools/import_graph.py            # print levels, cycles and imports against the order
    python tools/import_graph.py --write    # write picture and table into docs/architecture.md
    python tools/import_graph.py --check    # exit with 1 if that page is out of date or a rule is broken

Every import counts: at the head of a file, inside a function, and under TYPE_CHECKING. A file is one level above the
highest file that it imports. The modules that only re-export names (`__init__.py`) count like any other.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "expunge"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- made by tools/import_graph.py -->", "<!-- end of what tools/import_graph.py made -->"
MOST_LEVELS = 14

# Packages and files of the root in import order: each may import those above it, never those below.
ORDER = (
    "version", "errors", "days", "lazy", "imports", "own_code", "extensions", "summaries", "secret_text", "hub_cache", "torch_utils",
    "data", "records", "sources", "tasks", "models", "masks", "tracking", "training", "methods", "audit", "tuning", "pipeline",
    "generation", "receipts", "report", "projects", "integrations", "bench", "cli", "__init__", "__main__",
)  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """The imports of every file.

    Args:
        imports: {module: modules of the package that it imports}, by full names.
        files: {module: file}.
    """

    imports: dict[str, set[str]]
    files: dict[str, Path]

    @classmethod
    def read(cls, source: Path = SOURCE) -> Graph:
        """Read all files below `source`."""
        files = {_module_name(file, source): file for file in sorted(source.rglob("*.py"))}
        return cls({name: _imports_of(name, file, set(files)) for name, file in files.items()}, files)

    def cycles(self) -> list[list[str]]:
        """Return the groups of files that import each other, directly or through others."""
        groups = [sorted(g) for g in _components(self.imports) if len(g) > 1]
        return sorted(groups)

    def levels(self) -> dict[str, int]:
        """Return the level of every file, from 1. Raises `ValueError` where files import each other."""
        if cycles := self.cycles():
            raise ValueError(f"files import each other: {cycles}")
        levels: dict[str, int] = {}

        def level(name: str) -> int:
            if name not in levels:
                levels[name] = 1 + max((level(other) for other in self.imports[name]), default=0)
            return levels[name]

        for name in self.imports:
            level(name)
        return levels

    def longest_chain(self) -> list[str]:
        """Return a chain of imports as long as the highest level, from the top."""
        levels = self.levels()
        chain = [max(levels, key=lambda name: levels[name])]
        while below := [n for n in self.imports[chain[-1]] if levels[n] == levels[chain[-1]] - 1]:
            chain.append(sorted(below)[0])
        return chain

    def packages(self) -> dict[str, dict[str, int]]:
        """Return how many imports go from each package to each other one: {package: {imported package: number}}."""
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for name, others in self.imports.items():
            for other in others:
                if package_of(name) != package_of(other):
                    counts[package_of(name)][package_of(other)] += 1
        return {name: dict(others) for name, others in counts.items()}

    def upward(self) -> list[str]:
        """Return the imports that go against `ORDER`, and packages that it lacks, a line each."""
        known = {package_of(name) for name in self.imports}
        lines = [f"{name} is not in ORDER" for name in sorted(known - set(ORDER))]
        for name, others in sorted(self.imports.items()):
            for other in sorted(others):
                a, b = package_of(name), package_of(other)
                if a in ORDER and b in ORDER and ORDER.index(b) > ORDER.index(a):
                    lines.append(f"{name} imports {other}")
        return lines


def package_of(module: str) -> str:
    """Return the package, or the file of the root, that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _module_name(file: Path, source: Path) -> str:
    parts = [source.name, *file.relative_to(source).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports_of(name: str, file: Path, modules: set[str]) -> set[str]:
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package
            for _ in range(node.level - 1):
                base = base.rpartition(".")[0]
            module = ".".join(filter(None, [base if node.level else "", node.module]))
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                names.add(whole if whole in modules else module)
    return (names & modules) - {name}


def _components(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            components.append(set(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return components


def purpose(package: str) -> str:
    """Return the first paragraph of a package's docstring, on one line."""
    folder = SOURCE / package
    file = folder / "__init__.py" if folder.is_dir() else SOURCE / f"{package}.py"
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def section(graph: Graph) -> str:
    """Return the generated part of the architecture page: the picture and the table."""
    packages = graph.packages()
    users = {name: [p for p in ORDER if name in packages.get(p, {})] for name in ORDER}
    drawn = [p for p in ORDER if (SOURCE / p).is_dir()]
    arrows = [f"    {a} --> {b}" for a in drawn for b in _direct(a, drawn, packages)]
    levels = graph.levels()
    rows = [
        f"| `{name}` | {purpose(name)} | {', '.join(f'`{u}`' for u in users[name]) or 'nothing'} |"
        for name in ORDER
        if not name.startswith("__")
    ]
    return "\n".join(
        [
            BEGIN,
            "",
            "```mermaid",
            "graph TD",
            *arrows,
            "```",
            "",
            "The arrows point at what a package imports. An arrow is left out where a longer way leads there.",
            f"The {len(graph.files)} files have {max(levels.values())} levels of imports and no cycle.",
            "",
            "| package | purpose | imported by |",
            "| --- | --- | --- |",
            *rows,
            "",
            END,
        ]
    )


def _direct(package: str, drawn: list[str], packages: dict[str, dict[str, int]]) -> list[str]:
    """The imported packages that no other imported package leads to."""
    imported = [p for p in packages.get(package, {}) if p in drawn]
    return [p for p in sorted(imported) if not any(p in _reached(q, packages) for q in imported if q != p)]


def _reached(package: str, packages: dict[str, dict[str, int]]) -> set[str]:
    reached: set[str] = set()
    todo = [package]
    while todo:
        for other in packages.get(todo.pop(), {}):
            if other not in reached:
                reached.add(other)
                todo.append(other)
    return reached


def page(graph: Graph) -> str:
    """Return the architecture page with its generated part made anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + section(graph) + rest.partition(END)[2]


def problems(graph: Graph) -> list[str]:
    """Return every broken rule, a line each: cycles, imports against the order, too many levels."""
    lines = [f"files import each other: {', '.join(group)}" for group in graph.cycles()]
    lines += graph.upward()
    if not lines and (most := max(graph.levels().values())) > MOST_LEVELS:
        lines.append(
            f"{most} levels of imports, at most {MOST_LEVELS} are allowed: {' > '.join(graph.longest_chain())}"
        )
    return lines


def main(arguments: list[str]) -> int:
    """Run the command. Returns its exit code."""
    graph = Graph.read()
    broken = problems(graph)
    if "--write" in arguments:
        PAGE.write_text(page(graph), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
    elif "--check" in arguments:
        if page(graph) != PAGE.read_text(encoding="utf-8"):
            broken.append(
                f"{PAGE.relative_to(ROOT)} is out of date; run python tools/import_graph.py --write"
            )
    elif not graph.cycles():
        for name, level in sorted(graph.levels().items(), key=lambda item: (item[1], item[0])):
            print(f"{level:2d} {name}")
        print("longest chain:", " > ".join(graph.longest_chain()))
    print("\n".join(broken) or "no rule is broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
