"""Falcon's figures, one module each. README.md says what each is, and how ours differ from the paper's."""

FIGURES = {
    "table2": "the plan of eight agents on eight servers under rules",
    "fig7": "decoding time against file size, three qualities",
    "fig8": "how long the face service takes to another host against bandwidth, beside a container's payload",
    "fig9": "processor and memory at both hosts while the face service moves, beside a container's payload",
    "fig10": "the annotated picture at the destination",
    "fig12": "throughput of the improved ledger against the number of transactions",
    "fig13": "improved PBFT beside the unimproved: transfers and account creations",
    "fig13_narrow": "the same with a narrow link to the primary, where the improvement shows",
}
