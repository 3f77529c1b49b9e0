"""How much worse a policy is than the best plan in hindsight. `python -m benchmarks decide --only regret` runs it.

trace.py: what happened and was measured; generate.py: traces by seed; record.py: traces from real hosts; simulate.py:
what a policy makes of a trace, by production's own policy and planner; cost.py: what that costs; hindsight.py: the best
plan of who knows all.
"""
