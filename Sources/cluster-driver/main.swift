import ClusterDriver
import Glibc

exit(Program.run())
