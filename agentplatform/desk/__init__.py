"""What a caller at the front door may ask of a host: one method a verb, and `front.VERBS` is the table of them."""
