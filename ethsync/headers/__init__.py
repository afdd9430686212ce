"""The chain of headers below a trusted head: fetched in parallel, proven by hash links, kept in pages."""
