"""The browser's half of the widgets: JavaScript and CSS that anywidget loads."""
