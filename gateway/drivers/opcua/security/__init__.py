"""Who is trusted, and who we are: certificates, keys and what the config says of them."""
