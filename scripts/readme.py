"""Put the quick tier's overview and the rule graph into README.md, between their markers."""

import re
from pathlib import Path

BLOCKS = {"overview": Path("docs/quick/overview.md"), "rule graph": Path("docs/rulegraph.md")}


def filled(readme: str) -> str:
    """README.md with each block as its file in docs/ has it."""
    for name, path in BLOCKS.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        block = f"{start}{path.read_text().strip()}\n{end}"
        readme, found = re.subn(f"{start}.*?{end}", lambda _, b=block: b, readme, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"README.md has {found} blocks '{name}', not one")
    return readme


if __name__ == "__main__":
    readme = Path("README.md")
    readme.write_text(filled(readme.read_text()))
