"""Measuring other nodes: what one node is and does (`probe`), and all nodes that can be found (`crawl`)."""
