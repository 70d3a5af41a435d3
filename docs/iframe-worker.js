// Search where the site is opened from a folder: a browser starts no worker from a file, so its script runs in a hidden frame instead.
// Material's plugin `offline` puts the index beside it; the name of this file is what the plugin looks for, else it would fetch one.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      this.ready = new Promise((done, failed) => {
        inside.document.write("<!doctype html><body>");
        inside.document.close();
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data })); // what the script answers with
        const script = inside.document.createElement("script");
        Object.assign(script, { src: address, onload: done, onerror: failed });
        inside.document.body.append(script);
      });
      this.inside = inside;
      this.frame = frame;
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
