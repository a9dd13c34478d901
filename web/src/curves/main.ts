// The script of a run's page.

import { start } from "./zoom.ts";

start();
