"""What the server reports of its own accord: subscriptions, their items, and what is lost of them."""
