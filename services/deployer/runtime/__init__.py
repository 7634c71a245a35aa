"""How replicas run: as processes of this host."""
