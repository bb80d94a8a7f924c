/* One radiograph on a canvas: window and level over all its grey levels, zoom, pan, heat map. */

const WHITE = 65535;
const NARROWEST = 512; // grey levels of a window
const CLOSEST = 30; // times the size at which all of it is seen
const STEP = 1.2;
const MARGIN = 48; // CSS pixels of the radiograph that stay in sight

const between = (low, value, high) => Math.min(Math.max(value, low), high);

export class Viewport {
  #context;
  #slice = document.createElement("canvas"); // the radiograph through window and level, at its own size
  #picture = null;
  #heat = null;
  #stale = true; // the slice
  #frame = 0;

  /**
   * @param canvas fills its parent
   * @param changed called when window, zoom or polarity are other than before
   * @param sharper called once when the reader comes closer than a reduced picture is worth
   */
  constructor(canvas, { changed, sharper }) {
    Object.assign(this, { canvas, changed, sharper });
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#setBack();
    this.watcher = new ResizeObserver(() => this.#resized());
    this.watcher.observe(canvas.parentElement);
  }

  /** Show a radiograph; a sharper one in its place keeps window, zoom and place. */
  show(picture) {
    this.#picture = picture;
    [this.#slice.width, this.#slice.height] = [picture.columns, picture.rows];
    this.#stale = true;
    this.#resized();
  }

  /** Lay a heat map over it, or none. */
  overlay(heat) {
    this.#heat = heat;
    this.#draw();
  }

  reset() {
    this.#setBack();
    this.#stale = true;
    this.#draw();
  }

  invert() {
    this.inverted = !this.inverted;
    this.#stale = true;
    this.#draw();
  }

  /** Change width and level by parts of the whole range. */
  window(width, level) {
    this.width = between(NARROWEST, this.width + width * WHITE, 2 * WHITE);
    this.level = between(0, this.level + level * WHITE, WHITE);
    this.#stale = true;
    this.#draw();
  }

  /** Zoom by steps; what is at a point of the canvas (CSS pixels, default its centre) stays there. */
  zoomBy(steps, point = null) {
    const centre = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 };
    const at = point ?? centre;
    const before = this.zoom;
    this.zoom = between(1, before * STEP ** steps, CLOSEST);
    const ratio = this.zoom / before;
    this.x = (this.x - (at.x - centre.x)) * ratio + (at.x - centre.x);
    this.y = (this.y - (at.y - centre.y)) * ratio + (at.y - centre.y);
    this.#place();
  }

  /** Move by CSS pixels. */
  pan(x, y) {
    this.x += x;
    this.y += y;
    this.#place();
  }

  close() {
    this.watcher.disconnect();
    cancelAnimationFrame(this.#frame);
    this.#picture = this.#heat = null;
    this.#slice.width = this.#slice.height = 0; // gives the memory back at once
  }

  #setBack() {
    Object.assign(this, { width: WHITE, level: WHITE / 2, zoom: 1, x: 0, y: 0, inverted: false });
  }

  /** CSS pixels of the whole radiograph. */
  #shown() {
    const { columns, rows } = this.#picture;
    const scale = this.zoom * Math.min(this.canvas.clientWidth / columns, this.canvas.clientHeight / rows);
    return { width: columns * scale, height: rows * scale, scale };
  }

  #place() {
    if (!this.#picture) return;
    const { width, height, scale } = this.#shown();
    const furthest = (side, whole) => Math.max(0, (side + whole) / 2 - MARGIN);
    const [right, down] = [furthest(width, this.canvas.clientWidth), furthest(height, this.canvas.clientHeight)];
    this.x = between(-right, this.x, right);
    this.y = between(-down, this.y, down);
    if (this.#picture.reduced && scale * (window.devicePixelRatio || 1) > 1) {
      this.#picture.reduced = false; // asked for once
      this.sharper();
    }
    this.#draw();
  }

  #resized() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      [this.canvas.width, this.canvas.height] = [width, height];
    }
    this.#place();
  }

  #draw() {
    if (!this.#frame && this.#picture) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = 0;
    if (!this.#picture) return;
    if (this.#stale) this.#expose();
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.#shown();
    const context = this.#context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingQuality = "high";
    const left = (this.canvas.clientWidth - width) / 2 + this.x;
    const top = (this.canvas.clientHeight - height) / 2 + this.y;
    context.drawImage(this.#slice, left, top, width, height);
    if (this.#heat) context.drawImage(this.#heat, left, top, width, height);
    this.changed();
  }

  #expose() {
    this.#stale = false;
    const { pixels, rows, columns } = this.#picture;
    const grey = new Uint32Array(WHITE + 1);
    const low = this.level - this.width / 2;
    for (let value = 0; value <= WHITE; value += 1) {
      const seen = between(0, Math.round((255 * (value - low)) / this.width), 255);
      grey[value] = 0xff000000 | ((this.inverted ? 255 - seen : seen) * 0x010101);
    }
    const image = new ImageData(columns, rows);
    const out = new Uint32Array(image.data.buffer);
    for (let i = 0; i < out.length; i += 1) out[i] = grey[pixels[i]];
    this.#slice.getContext("2d", { alpha: false }).putImageData(image, 0, 0);
  }
}
