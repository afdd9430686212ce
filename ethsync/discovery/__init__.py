"""Finding nodes: discv5, discv4, DNS lists, and the table and candidates that they fill."""
