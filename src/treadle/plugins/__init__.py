"""Plugins that ship with Treadle. They use nothing but what every plugin can, and are active where
treadle.toml has a table for them: `[plugins.StateLogger]`, `[plugins.WebhookNotifier]`."""
