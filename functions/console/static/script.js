// Copies a text, submits a search when a choice changes, and follows what goes on. Every page works without it.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
for (const field of document.querySelectorAll("select[data-submit]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}
for (const live of document.querySelectorAll("[data-live]")) {
  if (live.dataset.live) follow(live);
  else look(live);
}

// replace puts other nodes into an element. The link that had the focus has it again.
function replace(live, nodes) {
  const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  live.replaceChildren(...nodes);
  if (focused) [...live.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
}

// follow shows what the server sends. Where answers are not streamed, it looks again and again.
function follow(live) {
  let source, begun;
  const open = () => {
    source = new EventSource(live.dataset.live);
    source.addEventListener("list", (e) => {
      begun = true;
      const list = document.createElement("template");
      list.innerHTML = e.data;
      replace(live, list.content.childNodes);
    });
    source.addEventListener("end", () => location.reload()); // the session has ended, or its token has expired
    source.onerror = () => source.readyState === EventSource.CLOSED && give();
  };
  const give = () => {
    source.close();
    document.removeEventListener("visibilitychange", turn);
    look(live);
  };
  const turn = () => (document.hidden ? source.close() : open());
  open();
  document.addEventListener("visibilitychange", turn);
  setTimeout(() => begun || give(), 5000);
}

// look loads the page again every 1.5 seconds, and shows the part that may have changed.
function look(live) {
  setTimeout(async () => {
    const answer = await fetch(location.href).catch(() => undefined);
    if (answer?.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById(live.id);
      if (answer.redirected || !next || !next.hasAttribute("data-live")) return location.reload(); // signed out, or ended
      replace(live, next.childNodes);
    }
    look(live);
  }, 1500);
}
