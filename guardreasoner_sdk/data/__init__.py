"""Files of rows: reading them, and writing what was made of them so that a killed run can go on."""
