"""How jobs come in: from a request to what is made of it."""
