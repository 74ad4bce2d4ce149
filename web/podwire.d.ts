/** What to open. What is left out is the relay's to choose. */
export interface Target {
  namespace: string;
  pod: string;
  /** Else the pod's default container. */
  container?: string;
  /** Else the relay's default cluster. */
  cluster?: string;
  /** `bash`, `sh`, …; else the best there is. */
  shell?: string;
  /** Instead of a shell. */
  command?: readonly string[];
  /** A terminal: true unless it is false. */
  tty?: boolean;
}

export interface Options {
  /** A bearer token for the handshake. Kept in memory only. */
  token?: string;
  /** Another WebSocket than the platform's. */
  WebSocket?: typeof WebSocket;
}

export interface Size {
  cols: number;
  rows: number;
}

/** The relay's first message. */
export interface Ready {
  session: string;
  /** The subprotocol towards the cluster. */
  protocol: string;
  cluster: string;
  namespace: string;
  pod: string;
  container: string | null;
  tty: boolean;
}

/** Something that a user should see. */
export interface Notice {
  kind: 'idle_warning' | 'drain' | 'recording' | (string & {});
  message: string;
}

/** How the session ended. */
export interface Ending {
  /**
   * As the relay says: `exit`, `forbidden`, `idle`, …; or, where it could say nothing, `no connection`,
   * `connection lost` and, after `close()`, `closed`.
   */
  kind: string;
  /** Of the process, if it is known. */
  exitCode: number | null;
  /** A sentence for people. */
  message: string;
  /** Whether the same session may well be opened again. */
  retry: boolean;
}

export interface SessionEvents {
  ready: CustomEvent<Ready>;
  /** Output; with a TTY all of it. The bytes are the listener's to keep. */
  data: CustomEvent<Uint8Array>;
  /** Without a TTY. */
  stderr: CustomEvent<Uint8Array>;
  notice: CustomEvent<Notice>;
  /** A message was not understood; the session goes on. */
  error: CustomEvent<{ message: string }>;
  /** The answer to a `ping`. */
  pong: CustomEvent<{ milliseconds: number }>;
  /** Once, after everything else. `code` is the WebSocket's. */
  exit: CustomEvent<Ending & { code: number }>;
}

/** One session with a container, through a relay. */
export class Session extends EventTarget {
  /**
   * @param relay The relay's base address, such as `https://relay.example/base/`; may be relative to the page.
   * @param target What to open, or parameters as they stand in an address.
   */
  constructor(relay: string | URL, target: Target | URLSearchParams, options?: Options);

  /** The WebSocket's address for a target. */
  static address(relay: string | URL, target: Target | URLSearchParams): URL;

  /** The relay's first message, once it is there. */
  readonly ready: Ready | null;
  /** How the session ended, once it has. */
  readonly ending: Ending | null;
  /** Bytes of input that are still in this browser. */
  readonly buffered: number;

  /** Opens the session, once. */
  open(size?: Partial<Size>): this;
  /** Sends text or bytes to the process. False if they were not taken. */
  input(data: string | Uint8Array): boolean;
  /** Says how large the terminal is. */
  resize(size: Size): void;
  /** Ends the input. Only without a TTY. */
  eof(): void;
  /**
   * Says that so many bytes more of `data` and `stderr` have been consumed. From the first call on the relay
   * keeps to its window.
   */
  ack(bytes: number): void;
  /** Asks the relay for a `pong`. */
  ping(): void;
  /** Ends the session; the relay hangs up the process. */
  close(reason?: string): void;

  addEventListener<K extends keyof SessionEvents>(
    type: K,
    listener: (this: Session, event: SessionEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}
