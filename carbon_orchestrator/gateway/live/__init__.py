"""All that happens, as it happens: `GET /events`."""
