"""Published experiments, made again on this machine: `agentplatform reproduce PAPER [FIGURE ..]`.

A paper is one package here and one row below. It has a table FIGURES (name -> what it shows), and for each name a
module with `measure(scale, say) -> Result`: result.py says what that is, plots.py draws, write.py writes, run.py runs.
"""

PAPERS = {
    "falcon": "mobile agents under a consortium's ledger: service groups that follow their users",
}
