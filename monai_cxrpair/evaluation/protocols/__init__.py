"""How an encoder is judged: what learns from the drawn labels, on which radiographs, and what is tested."""
