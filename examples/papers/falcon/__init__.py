"""Falcon's figures, one module each. README.md says what each is, and how ours differ from the paper's."""

FIGURES = {
    "table2": "the plan of eight agents on eight servers under rules",
}
