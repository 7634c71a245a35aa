"""Grafana's dashboards and the alert rules as code: `make dashboards` writes them into compose/observability."""
