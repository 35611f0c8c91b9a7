"""What a browser gets: pages, scripts and styles, without a build step of their own."""
