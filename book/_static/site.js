// A page that was opened as a file may not read others, which the excerpts of the search need.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
