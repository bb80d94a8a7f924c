"""What is minimised: a query, its keys, and what it is told apart from."""
