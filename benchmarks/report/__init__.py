"""Reports: tables, plots, progress, and facts about the machine they were measured on."""
