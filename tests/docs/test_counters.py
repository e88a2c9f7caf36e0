"""``docs/counters.md``: each counter that the code names, and no other."""

import ast
import re
from pathlib import Path

import netstack

PACKAGE = Path(netstack.__path__[0])
LAYERS = "arp|dns|driver|ethernet|icmpv4|ipv4|link|raw_ip|server|stack|switch|tcp|udp"
NAME = re.compile(rf"(?:{LAYERS})\.[a-z0-9_]+")
COUNTED = ("device", "driver", "internet", "link", "naming", "socket", "stack.py", "transport")


def named_in_code():
    """Yield every string of the layers that count which looks like a counter's name."""
    for top in COUNTED:
        path = PACKAGE / top
        for file in [path] if path.suffix else path.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    if NAME.fullmatch(node.value):
                        yield node.value
                elif isinstance(node, ast.JoinedStr) and file.parent.name == "link":
                    # The neighbour cache counts under its protocol's name.
                    last = node.values[-1]
                    if isinstance(last, ast.Constant) and re.fullmatch(r"\.[a-z_]+", last.value):
                        yield f"arp{last.value}"


def test_every_counter_is_documented_and_no_other():
    text = (PACKAGE.parent / "docs" / "counters.md").read_text("utf-8")
    documented = re.findall(rf"`({NAME.pattern})`", text)
    documented = [name for name in documented if not name.startswith("link.cable")]
    assert len(documented) == len(set(documented)), "twice in the list"
    assert set(documented) == set(named_in_code())
