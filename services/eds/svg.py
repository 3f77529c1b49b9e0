"""The few shapes of SVG that pictures are made of. Every text goes through `safe`: names may be hostile. Pure."""

from collections.abc import Iterable
from html import escape

FONT = "system-ui, 'DejaVu Sans', Arial, sans-serif"
WIDE = 0.58  # of the font's size: about as wide is a letter
ELLIPSIS = "\u2026"
GREY, INK, FAINT = "#6b7280", "#111827", "#d1d5db"
BLUE, GREEN, RED, AMBER, VIOLET = "#2563eb", "#15803d", "#b91c1c", "#b45309", "#7c3aed"

Point = tuple[float, float]


def safe(text: str) -> str:
    """As XML has it. What XML cannot have, or would turn the direction of writing, is shown as a replacement sign."""
    return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + ELLIPSIS


def wrapped(text: str, letters: int) -> list[str]:
    """Lines of at most so many letters, broken between words where there are any."""
    lines = [""]
    for word in text.split():
        while len(word) > letters:
            lines.append(word[:letters])
            word = word[letters:]
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]


def text(at: Point, words: str, size: float, colour: str, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{weight}'
        f' paint-order="stroke" stroke="#fff" stroke-width="3" stroke-linejoin="round">{safe(words)}</text>'
    )


def circle(at: Point, radius: float, style: str) -> str:
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:g}" {style}/>'


def curve(start: Point, bend: Point, end: Point, style: str) -> str:
    return f'<path d="M{start[0]:.1f} {start[1]:.1f} Q{bend[0]:.1f} {bend[1]:.1f} {end[0]:.1f} {end[1]:.1f}" {style}/>'


def line(start: Point, end: Point, style: str) -> str:
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" {style}/>'


def told(shape: str, words: str) -> str:
    """A shape that says more when a pointer rests on it."""
    return f"<g><title>{safe(words)}</title>{shape}</g>"


def between(start: Point, end: Point, part: float) -> Point:
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def drawing(width: float, height: float, title: str, parts: Iterable[str], defs: str = "") -> str:
    """One file, without scripts, links, or anything from elsewhere."""
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}">'
    back = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>'
    return "\n".join((head, f"<title>{safe(title)}</title>", f"<defs>{defs}</defs>", back, *parts, "</svg>", ""))
