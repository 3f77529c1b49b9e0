"""The event decision server: hears what happened, decides who should run where, and can say why."""
