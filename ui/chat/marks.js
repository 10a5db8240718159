// below each message: which version it is, the others, and delete; Gradio's chatbot has no buttons of ours there
const history = () => document.querySelector("#history");

const button = (sign, label, data) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = sign;
  made.title = label;
  made.setAttribute("aria-label", label);
  made.disabled = !data.id;
  made.addEventListener("click", (event) => {
    event.stopPropagation();
    if (data.do === "delete" && !made.classList.contains("ng-sure")) {
      made.classList.add("ng-sure");
      made.textContent = data.sure;
      made.addEventListener("blur", () => {
        made.classList.remove("ng-sure");
        made.textContent = sign;
      }, { once: true });
      return;
    }
    trigger("click", data);
  });
  return made;
};

const bar = (mark) => {
  const made = document.createElement("div");
  made.className = "ng-mark";
  made.dataset.mark = JSON.stringify(mark);
  if (mark.version) {
    const shown = document.createElement("span");
    shown.textContent = mark.shown;
    shown.setAttribute("aria-label", mark.version);
    shown.setAttribute("role", "note");
    made.append(
      button("‹", mark.labels[0], { do: "choose", id: mark.earlier }),
      shown,
      button("›", mark.labels[1], { do: "choose", id: mark.later }),
    );
  }
  made.append(button("✕", mark.delete, { do: "delete", id: mark.id, sure: mark.sure }));
  return made;
};

const draw = () => {
  const marks = Array.isArray(props.value) ? props.value : [];
  const rows = history()?.querySelectorAll(".message-row") ?? [];
  rows.forEach((row, at) => {
    const there = row.querySelector(":scope > .ng-mark");
    const wanted = marks[at] ? JSON.stringify(marks[at]) : "";
    if (there?.dataset.mark === wanted) return;
    there?.remove();
    if (wanted) row.append(bar(marks[at]));
  });
};

let waiting = false;
const soon = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
};
watch("value", soon);
const look = () => {
  const there = history();
  if (!there) return setTimeout(look, 50);
  new MutationObserver(soon).observe(there, { childList: true, subtree: true });
  soon();
};
look();
