"""The scheduler: one message per selected node for every occurrence of a cron entry."""
