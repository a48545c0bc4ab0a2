"""Label volumes: union-find, contingency tables, scores and relabelling, none of which knows a stage."""
