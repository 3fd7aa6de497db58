"use strict";
addEventListener("load", () => setTimeout(() => fetch("/arrived" + location.search)));
