"""The mailroom of a host: takes letters from agents, clients and other hosts to where they go.

The rules are in agentplatform.mail and agentplatform.mailbox; here they meet the wire, the runner and the disk. Letters
begin in `clients` and `sender`, go to whom `addressing` says when `leaving` lets them, and are taken from whom
`vouching` says; all post comes through `room`.
"""
