"""What every service shares: errors, server, channel, health, settings, logging, device thread."""
