import type { ITerminalAddon, Terminal } from '@xterm/xterm';
import type { Session } from './podwire.js';

export interface AddonOptions {
  /** Changes what is typed before it is sent. */
  typed?: (data: string) => string;
}

/** Joins a session to a terminal until the session ends; output is acknowledged as it is drawn. */
export class PodwireAddon implements ITerminalAddon {
  constructor(session: Session, options?: AddonOptions);
  activate(terminal: Terminal): void;
  /** Leaves terminal and session as they are, and no longer joins them. */
  dispose(): void;
}
