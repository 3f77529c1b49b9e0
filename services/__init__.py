"""Four services: EDS decides, RMS counts, DMS keeps, TMS trusts."""

PART_OF = "agentplatform"
