"""The list of protocols: a new southbound protocol is one folder here and one name in `Device`."""
