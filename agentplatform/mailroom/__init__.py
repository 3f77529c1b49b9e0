"""The mailroom of a host: takes letters from agents, clients and other hosts to where they go.

The rules are in agentplatform.mail and agentplatform.mailbox; here they meet the wire, the runner and the disk. Letters
begin in `clients` and `sender`, and leave by `leaving`; all post comes through `room`.
"""
