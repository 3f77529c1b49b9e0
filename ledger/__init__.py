"""The consortium's chain: identities, links, consensus, trust. It runs with nothing above it."""

PART_OF = "agentplatform"
