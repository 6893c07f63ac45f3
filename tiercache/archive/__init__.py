"""Archives: the entries of a cache in one file, or through a pipe, from any tier to any chain.

    from tiercache.archive import export_archive, import_archive

    export_archive(cache, "backup.tca")
    print(import_archive("backup.tca", another_cache))

Entries keep their namespace (within the exported one), codec, times, and bytes as they were stored. Both
directions go batch by batch, whatever the number of entries, and go on where they were when they are started
again. The format is described in `tiercache.archive._format`. What needs no archive is better left to
`tiercache.integrations.langchain.migrate`, or to the tools of the server itself.
"""

from tiercache.archive._export import ExportReport, export_archive
from tiercache.archive._import import ImportReport, import_archive

__all__ = ["ExportReport", "ImportReport", "export_archive", "import_archive"]
