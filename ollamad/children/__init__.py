"""Child processes of the daemon, whatever they run: started, listened to, killed and reaped here."""
