// Copies a text, submits a search when a choice changes, and looks again at what goes on. Every page works without it.
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
  const look = async () => {
    const answer = await fetch(location.href).catch(() => undefined);
    if (answer?.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById(live.id);
      if (answer.redirected || !next || !next.hasAttribute("data-live")) return location.reload(); // signed out, or ended
      live.replaceChildren(...next.childNodes);
    }
    setTimeout(look, 1500);
  };
  setTimeout(look, 1500);
}
