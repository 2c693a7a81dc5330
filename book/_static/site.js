// A page that was opened as a file may not read others, which the excerpts of the search need.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A formula that is wider than the window scrolls in its box: by the keyboard, too.
const reachFormulas = () =>
  document.querySelectorAll("div.math").forEach((formula) => {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  });
addEventListener("load", reachFormulas);
addEventListener("resize", reachFormulas);
