"""The deployer: keeps an application's replicas running and rolls new releases out behind the proxy."""
