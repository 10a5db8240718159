// what is pressed in the list of conversations
const send = (button, more = {}) => trigger("click", { do: button.dataset.do, id: button.dataset.id, ...more });

const rename = (button) => {
  const open = button.closest("li").querySelector(".ng-open");
  const box = document.createElement("input");
  box.value = button.dataset.title;
  box.maxLength = 200;
  box.setAttribute("aria-label", button.getAttribute("aria-label"));
  open.replaceWith(box);
  let done = false;
  const end = (kept) => {
    if (done) return;
    done = true;
    box.replaceWith(open);
    if (kept && box.value.trim() && box.value !== button.dataset.title) send(button, { title: box.value });
    else open.focus();
  };
  box.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
  });
  box.addEventListener("blur", () => end(true));
  box.focus();
  box.select();
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (!button) return;
  if (button.dataset.do === "rename") return rename(button);
  if (button.dataset.do === "delete" && !button.classList.contains("ng-sure")) {
    button.classList.add("ng-sure");
    button.textContent = button.dataset.sure;
    button.addEventListener("blur", () => {
      button.classList.remove("ng-sure");
      button.textContent = "✕";
    }, { once: true });
    return;
  }
  send(button);
});
