// What the page does in the browser alone: its address, the clicks on pictures, the brush.
const explore = {
  // The page's address with what is chosen, where that is not as at the start.
  link(starts, values) {
    const fields = new URLSearchParams();
    Object.keys(starts).forEach((name, index) => {
      const [value, start] = [values[index], starts[name]].map((each) => String(each ?? ""));
      if (value !== start) fields.set(name, value);
    });
    const address = new URL(location.href);
    address.hash = fields.toString();
    // Browsers refuse more than a few such changes a second.
    clearTimeout(explore.timer);
    explore.timer = setTimeout(() => history.replaceState(null, "", address), 300);
    return address.href;
  },

  // Lets a click on a picture, or the enter key, give its value.
  pictures(element, trigger) {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-value]");
      if (button) trigger("select", { value: button.dataset.value });
    });
  },

  // Copies what a link leads to, or the text of lines.
  copy(element) {
    element.addEventListener("click", (event) => {
      if (!event.target.closest("button")) return;
      const [link, lines] = ["a", "pre"].map((name) => element.querySelector(name));
      const text = link ? link.href : lines.textContent;
      // Browsers give the clipboard to pages of this machine, and by https, alone.
      if (!navigator.clipboard) return void prompt("To be copied:", text);
      navigator.clipboard.writeText(text).then(() => { event.target.textContent = "Copied"; });
    });
  },

  // A canvas whose pixels are kept or erased, by mouse, finger or keyboard. `props.value` is the mask, as masks.py has it.
  brush(element, props, changed, watch, rows, columns) {
    const canvas = element.querySelector("canvas"), said = element.querySelector("[role=status]");
    const context = canvas.getContext("2d"), scale = canvas.width / columns;
    const picture = new Image();
    let kept = [], cursor = null, last = null;

    const read = () => {
      kept = [...(props.value || "")].flatMap((digit) => [8, 4, 2, 1].map((bit) => (parseInt(digit, 16) & bit ? 1 : 0)));
      draw();
    };
    const write = () => {
      const bits = kept.slice(0, rows * columns);
      while (bits.length % 8) bits.push(0);
      let text = "";
      for (let i = 0; i < bits.length; i += 4) text += parseInt(bits.slice(i, i + 4).join(""), 2).toString(16);
      props.value = text;
      changed();
    };
    const draw = () => {
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (picture.complete && picture.naturalWidth) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          if (!kept[row * columns + column]) {
            context.fillStyle = (row + column) % 2 ? "#b45309" : "#d97706";
            context.fillRect(column * scale, row * scale, scale, scale);
          }
      if (cursor && document.activeElement === canvas) {
        context.strokeStyle = "#0ea5e9";
        context.lineWidth = Math.max(2, scale / 4);
        context.strokeRect(cursor.column * scale, cursor.row * scale, scale, scale);
      }
    };
    const paint = ({ row, column }) => {
      const size = +element.querySelector("[name=size]").value, value = +element.querySelector("[name=tool]:checked").value;
      const start = Math.floor((size - 1) / 2);
      for (let r = row - start; r < row - start + size; r++)
        for (let c = column - start; c < column - start + size; c++)
          if (r >= 0 && r < rows && c >= 0 && c < columns) kept[r * columns + c] = value;
    };
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      const place = (share, number) => Math.min(number - 1, Math.max(0, Math.floor(share * number)));
      return { row: place((event.clientY - box.top) / box.height, rows), column: place((event.clientX - box.left) / box.width, columns) };
    };

    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = at(event);
      paint(last);
      draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = at(event), steps = Math.max(Math.abs(next.row - last.row), Math.abs(next.column - last.column), 1);
      for (let step = 1; step <= steps; step++)  // a fast stroke leaves no gaps
        paint({ row: Math.round(last.row + ((next.row - last.row) * step) / steps), column: Math.round(last.column + ((next.column - last.column) * step) / steps) });
      last = next;
      draw();
    });
    const end = () => {
      if (last) write();
      last = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!move && event.key !== " ") return;
      event.preventDefault();
      cursor ??= { row: 0, column: 0 };
      if (move)
        cursor = { row: Math.min(rows - 1, Math.max(0, cursor.row + move[0])), column: Math.min(columns - 1, Math.max(0, cursor.column + move[1])) };
      else {
        paint(cursor);
        write();
      }
      draw();
      const state = kept[cursor.row * columns + cursor.column] ? "kept" : "erased";
      said.textContent = `row ${cursor.row + 1}, column ${cursor.column + 1}: ${state}`;
    });
    canvas.addEventListener("focus", () => ((cursor ??= { row: 0, column: 0 }), draw()));
    canvas.addEventListener("blur", draw);
    element.querySelectorAll("[data-keep]").forEach((button) =>
      button.addEventListener("click", () => {
        const keeps = {
          everything: () => true, nothing: () => false, top: (r) => r < Math.floor(rows / 2), bottom: (r) => r >= Math.floor(rows / 2),
          left: (r, c) => c < Math.floor(columns / 2), right: (r, c) => c >= Math.floor(columns / 2),
        }[button.dataset.keep];
        kept = kept.map((_, index) => +keeps(Math.floor(index / columns), index % columns));
        draw();
        write();
      })
    );
    const load = () => (picture.src = props.picture);
    picture.addEventListener("load", draw);
    watch("picture", load);
    watch("value", read);
    load();
    read();
  },
};
// A link that is opened in the page's own tab.
addEventListener("hashchange", () => location.reload());
