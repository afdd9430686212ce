"""Connected peers: what we ask them, how well they answer, whom to ask next."""
